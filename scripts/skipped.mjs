// A vitest reporter that prints why tests were skipped, where the test says so; the default one only counts them.
export default class Skipped {
  onTestCaseResult(test) {
    const { state, note } = test.result();
    if (state === "skipped" && note)
      console.log(`skipped: ${note}: ${test.module.relativeModuleId} > ${test.fullName}`);
  }
}
