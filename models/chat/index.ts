/** Conversations with any model of a folder: one that is answered whole, and one that goes on and keeps its cache. */
export { Assistant, type AssistantOptions } from "./assistant.ts";
export { ChatSession, type SessionParts } from "./session.ts";
