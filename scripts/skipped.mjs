// A vitest reporter that prints why tests were skipped, if a test says so. The default reporter only counts them.
export default class Skipped {
  onTestCaseResult(test) {
    const { state, note } = test.result();
    if (state === "skipped" && note)
      console.log(`skipped: ${note}: ${test.module.relativeModuleId} > ${test.fullName}`);
  }
}
