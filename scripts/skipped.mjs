// A vitest reporter that names each skipped test with its reason; the default one counts them without a word.
export default class Skipped {
  onTestCaseResult(test) {
    const { state, note } = test.result();
    if (state === "skipped")
      console.log(`skipped: ${note ?? "no reason given"}: ${test.module.relativeModuleId} > ${test.fullName}`);
  }
}
