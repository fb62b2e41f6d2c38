import { Tensor } from "../tensor.ts";

/**
 * Adds methods to `Tensor`. The class itself holds the methods that ops call; the rest lies here, in one file a family,
 * so that no op of such a family is imported by the class (docs/architecture.md).
 */
export function addMethods(methods: Partial<Tensor> & ThisType<Tensor>): void {
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(methods))) {
    if (name in Tensor.prototype) throw new Error(`Tensor has a method ${name} already`);
    Object.defineProperty(Tensor.prototype, name, { ...property, enumerable: false });
  }
}
