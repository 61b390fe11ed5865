// What a frontend would write with the generated types. `tsc --strict` must accept it and report an error in the line marked @ts-expect-error.
import type { CreateMutation, DashboardQuery, FollowSubscription, JobStatus } from "./generated/operations.js";

export function names(result: DashboardQuery): string[] {
  return result.datasets.edges.map((edge) => edge.node.name);
}

export function outcome(result: CreateMutation): string {
  const payload = result.createDataset;
  switch (payload.__typename) {
    case "CreateDatasetPayload":
      return payload.dataset.id;
    case "InvalidInput":
      return payload.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
    case "NameTaken":
      return payload.message;
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
