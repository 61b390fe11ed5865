"""The maintenance tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from db.services.maintenance import (
    accounts,
    artifacts,
    audit,
    counters,
    credits,
    deletions,
    exports,
    mail,
    objects,
    retention,
    rows,
    runs,
    schedules,
    studies,
    uploads,
    usage,
)
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.settings import StateSettings

__all__ = ["MAINTENANCE_TASKS", "MaintenanceContext", "MaintenanceTask", "MaintenanceTaskFailed"]


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    """A recurring task. `run` returns the number of rows or objects changed; it must tolerate being killed at any point and running twice at once."""

    name: str
    run: Callable[[MaintenanceContext], Awaitable[int]]
    interval: Callable[[StateSettings], float]


MAINTENANCE_TASKS: dict[str, MaintenanceTask] = {
    task.name: task
    for task in (
        MaintenanceTask("make_partitions", rows.make_partitions, lambda settings: settings.maintenance_make_partitions),
        MaintenanceTask("retire_workers", rows.retire_workers, lambda settings: settings.maintenance_retire_workers),
        MaintenanceTask("forget_keys", rows.forget_keys, lambda settings: settings.maintenance_forget_keys),
        MaintenanceTask("forget_staged_points", rows.forget_staged_points, lambda settings: settings.maintenance_forget_staged_points),
        MaintenanceTask("send_mail", mail.send_mail, lambda settings: settings.maintenance_send_mail),
        MaintenanceTask("make_digests", mail.make_due_digests, lambda settings: settings.maintenance_make_digests),
        MaintenanceTask("forget_sign_ins", rows.forget_sign_ins, lambda settings: settings.maintenance_forget_sign_ins),
        MaintenanceTask("purge_accounts", accounts.purge_accounts, lambda settings: settings.maintenance_purge_accounts),
        MaintenanceTask("purge_deleted", deletions.purge_deleted, lambda settings: settings.maintenance_purge_deleted),
        MaintenanceTask("forget_api_usage", usage.forget_api_usage, lambda settings: settings.maintenance_forget_api_usage),
        MaintenanceTask("forget_notifications", rows.forget_notifications, lambda settings: settings.maintenance_forget_notifications),
        MaintenanceTask("apply_retention", retention.apply_retention, lambda settings: settings.maintenance_apply_retention),
        MaintenanceTask("schedule_studies", studies.schedule_studies, lambda settings: settings.maintenance_schedule_studies),
        MaintenanceTask("abandon_runs", runs.abandon_runs, lambda settings: settings.maintenance_abandon_runs),
        MaintenanceTask("run_import_schedules", schedules.run_import_schedules, lambda settings: settings.maintenance_run_import_schedules),
        MaintenanceTask("expire_uploads", uploads.expire_uploads, lambda settings: settings.maintenance_expire_uploads),
        MaintenanceTask("complete_artifacts", artifacts.complete_artifacts, lambda settings: settings.maintenance_complete_artifacts),
        MaintenanceTask("expire_exports", exports.expire_exports, lambda settings: settings.maintenance_expire_exports),
        MaintenanceTask("reconcile_counters", counters.reconcile_counters, lambda settings: settings.maintenance_reconcile_counters),
        MaintenanceTask("reconcile_credits", credits.reconcile_credits, lambda settings: settings.maintenance_reconcile_credits),
        MaintenanceTask("seal_audit", audit.seal_audit, lambda settings: settings.maintenance_seal_audit),
        MaintenanceTask("verify_audit", audit.verify_audit, lambda settings: settings.maintenance_verify_audit),
        MaintenanceTask("remove_unreferenced", objects.remove_unreferenced, lambda settings: settings.maintenance_remove_unreferenced),
        MaintenanceTask("collect_orphans", objects.collect_orphans, lambda settings: settings.maintenance_collect_orphans),
    )
}
