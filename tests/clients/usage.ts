// What a frontend would write with the generated types; `tsc --strict` must accept it, and must refuse the line it is told to expect an error in.
import type { CreateMutation, DashboardQuery, FollowSubscription, JobStatus } from "./generated/operations.js";

export function names(answer: DashboardQuery): string[] {
  return answer.datasets.edges.map((edge) => edge.node.name);
}

export function outcome(answer: CreateMutation): string {
  const ended = answer.createDataset;
  switch (ended.__typename) {
    case "CreateDatasetPayload":
      return ended.dataset.id;
    case "InvalidInput":
      return ended.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
    case "NameTaken":
      return ended.message;
  }
}

export function done(status: JobStatus): boolean {
  return status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";
}

export function percent(event: FollowSubscription): number {
  // @ts-expect-error the event has no such field
  void event.jobEvents.percent;
  return event.jobEvents.progress;
}
