// Whether the operation of a tab did what a step asks for.
import { type FieldNode, getOperationAST, type InlineFragmentNode, Kind, type OperationDefinitionNode, parse, type SelectionNode } from "graphql";
import { Cell } from "../store";
import type { Operation, Result } from "../transport";
import { complete } from "./api";
import { kept, learn } from "./kept";

/** The tab in which operations are executed. */
export const activeTab = new Cell("");

/** What is to be told the result of an operation that starts now; undefined where it is none of a step's. */
export function started(operation: Operation): ((result: Result<unknown>) => void) | undefined {
  const bound = kept.get().tabs[activeTab.get()];
  const executed = bound && operationOf(operation.query, operation.operationName);
  if (!executed || !isOf(bound.document, executed)) return undefined;
  return (result) => {
    if (!hasSucceeded(executed, result)) return;
    learn(bound, result.data);
    void complete(bound.tutorialId, bound.stepKey);
  };
}

function operationOf(query: string, name?: string | null): OperationDefinitionNode | null {
  try {
    return getOperationAST(parse(query), name) ?? null;
  } catch {
    return null;
  }
}

/** An edited document is still its step's while it has the same kind and root fields; GraphiQL's own reading of the schema is not. */
function isOf(document: string, executed: OperationDefinitionNode): boolean {
  const asked = operationOf(document, executed.name?.value) ?? operationOf(document);
  if (asked?.operation !== executed.operation) return false;
  const names = new Set(rootsOf(executed).map((field) => field.name.value));
  return rootsOf(asked).every((field) => names.has(field.name.value));
}

function hasSucceeded(executed: OperationDefinitionNode, { data, errors }: Result<unknown>): boolean {
  if (errors?.length || !data) return false;
  if (executed.operation !== "mutation") return true;
  return rootsOf(executed).every((field) => !isProblem(field, (data as Record<string, unknown>)[keyOf(field)]));
}

/** A payload has what the document selects of it; of a Problem there are only its code, its message and the like. */
function isProblem(field: FieldNode, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const answer = value as Record<string, unknown>;
  const type = answer["__typename"];
  if (typeof type === "string") return !type.endsWith("Payload");
  const selections = field.selectionSet?.selections ?? [];
  const ofPayload = selections.flatMap((one) => (isPayload(one) ? fieldsOf(one.selectionSet.selections) : []));
  return ofPayload.length > 0 && !ofPayload.some((one) => keyOf(one) in answer);
}

function isPayload(selection: SelectionNode): selection is InlineFragmentNode {
  return selection.kind === Kind.INLINE_FRAGMENT && Boolean(selection.typeCondition?.name.value.endsWith("Payload"));
}

function rootsOf(operation: OperationDefinitionNode): FieldNode[] {
  return fieldsOf(operation.selectionSet.selections);
}

function fieldsOf(selections: readonly SelectionNode[]): FieldNode[] {
  return selections.filter((one): one is FieldNode => one.kind === Kind.FIELD);
}

function keyOf(field: FieldNode): string {
  return field.alias?.value ?? field.name.value;
}
