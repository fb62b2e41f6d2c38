/** Conversations: `Assistant` opens the model of any folder, `ChatSession` keeps the cache between messages. */
export { Assistant, type AssistantOptions } from "./assistant.ts";
export { ChatSession, type SessionParts } from "./session.ts";
