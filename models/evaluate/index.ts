export {
  type Answer,
  type Answerer,
  type AskOptions,
  answererOf,
  ask,
  type Question,
  type SecondPass,
} from "./answer.ts";
export { bleu, type CaptionScores, captionScores, captionWords, cider, exactMatch } from "./captions.ts";
export { attentionMaps, drawAttention, imageAttention, type LensToken, logitLens } from "./inspect.ts";
export {
  type OwlAnswer,
  type OwlGrade,
  type OwlGraded,
  type OwlQuestion,
  owlAnswers,
  owlQuestions,
  owlTable,
  readOwlQuestions,
} from "./owl-eval.ts";
export { type OwlPageOptions, owlPage } from "./owl-page.ts";
export {
  type BenchContext,
  type BenchQuestion,
  type Judge,
  type JudgeOptions,
  judgeAnswers,
  judgeRules,
  type RelativeScore,
  type Review,
  type Rules,
  relativeScores,
} from "./relative-score.ts";
export {
  type CaptionPicture,
  type EvaluationOptions,
  evaluateBench,
  evaluateCaptions,
  evaluateOwl,
  evaluateScienceQA,
  type OwlEvaluationOptions,
  type ScienceEvaluationOptions,
} from "./run.ts";
export {
  readScienceQA,
  type ScienceFormat,
  type ScienceProblem,
  type ScienceScores,
  scienceLetter,
  scienceQuestions,
  scienceSample,
  scienceScores,
  scienceSecondPass,
} from "./science-qa.ts";
