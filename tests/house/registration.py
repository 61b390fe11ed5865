"""Checks for what a new type requires: functions that take a schema, a registry or tables and return complaints, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    is_introspection_type,
    is_specified_scalar_type,
)

from graph.core.permissions import Scope, scopes
from tests import selection
from tests.factories import Factory
from tests.graph_walk import paths

LEAST_DESCRIPTION = 4  # characters; a shorter description says nothing


def without_factory(types_by_prefix: Mapping[str, type], factories: Mapping[str, Factory]) -> list[str]:
    """Report node types without a factory, and id prefixes that two factories claim."""
    made_by: dict[str, str] = {}
    complaints: list[str] = []
    for domain, factory in factories.items():
        for prefix in factory.ids:
            if prefix in made_by:
                complaints.append(
                    f"tests/factories/{made_by[prefix]}.py and tests/factories/{domain}.py both make the rows of `{prefix}_…`."
                )
            made_by[prefix] = domain
    for prefix, type_ in types_by_prefix.items():
        if prefix not in made_by:
            domain = type_.__module__.split(".")[1]
            complaints.append(
                f"{type_.__name__} has no factory: write tests/factories/{domain}.py, or add {prefix!r} and its table to the `ids` of the"
                " factory there, with rows of it."
            )
    return complaints


def without_description(schema: GraphQLSchema) -> list[str]:
    """Report types, fields, arguments, input fields and enum values whose description is missing or too short."""
    return [
        f"{name} has no description."
        for named_type in schema.type_map.values()
        if not is_introspection_type(named_type) and not is_specified_scalar_type(named_type)
        for name, description in _descriptions(named_type)
        if not description or len(description.strip()) < LEAST_DESCRIPTION
    ]


def _descriptions(named_type: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    name = named_type.name
    yield name, named_type.description
    if isinstance(named_type, GraphQLObjectType | GraphQLInterfaceType):
        for field, definition in named_type.fields.items():
            yield f"{name}.{field}", definition.description
            yield from ((f"{name}.{field}({argument})", value.description) for argument, value in definition.args.items())
    elif isinstance(named_type, GraphQLInputObjectType):
        yield from ((f"{name}.{field}", value.description) for field, value in named_type.fields.items())
    elif isinstance(named_type, GraphQLEnumType):
        yield from ((f"{name}.{value}", member.description) for value, member in named_type.values.items())


OTHER_SCOPES: Mapping[str, Scope] = {
    "Mutation.administerUser": Scope.ADMIN,
    "Mutation.grantCredits": Scope.ADMIN,
    "Mutation.refundJob": Scope.ADMIN,
    "Mutation.createCreditPackage": Scope.ADMIN,
    "Mutation.updateCreditPackage": Scope.ADMIN,
    "Mutation.purchaseCredits": Scope.BILLING,
    "Mutation.setBudget": Scope.BILLING,
    "Experiment.budget": Scope.BILLING,
    "User.budget": Scope.BILLING,
    "ApiKey": Scope.ACCOUNT,
    "ApiRequest": Scope.ACCOUNT,
    "AuditEvent": Scope.ACCOUNT,
    "Invitation": Scope.ACCOUNT,
    "LoginEvent": Scope.ACCOUNT,
    "Passkey": Scope.ACCOUNT,
    "Session": Scope.ACCOUNT,
    "User.email": Scope.ACCOUNT,
    "User.emailVerifiedAt": Scope.ACCOUNT,
    "User.hasTotp": Scope.ACCOUNT,
    "User.backupCodesLeft": Scope.ACCOUNT,
    "User.invitations": Scope.ACCOUNT,
    "User.lastLoginAt": Scope.ACCOUNT,
    "User.oauthIdentities": Scope.ACCOUNT,
    "User.passwordChangedAt": Scope.ACCOUNT,
    "User.passkeys": Scope.ACCOUNT,
    "User.sessions": Scope.ACCOUNT,
    "User.loginEvents": Scope.ACCOUNT,
    "User.creditBalance": Scope.BILLING,
    "User.creditsHeld": Scope.BILLING,
    "User.credits": Scope.BILLING,
    "User.creditTransactions": Scope.BILLING,
    "Job.creditTransactions": Scope.BILLING,
    "CreditTransaction": Scope.BILLING,
    "Query.creditTransactions": Scope.BILLING,
    "Query.estimateCost": Scope.BILLING,
    "EmailMessage": Scope.ACCOUNT,
    "Query.emailMessages": Scope.ACCOUNT,
    "WebhookEndpoint": Scope.ACCOUNT,
    "WebhookDelivery": Scope.ACCOUNT,
    "User.webhookEndpoints": Scope.ACCOUNT,
    "Query.webhookEndpoints": Scope.ACCOUNT,
    "Mutation.createWebhookEndpoint": Scope.ACCOUNT,
    "Mutation.updateWebhookEndpoint": Scope.ACCOUNT,
    "Mutation.deleteWebhookEndpoint": Scope.ACCOUNT,
    "Mutation.rotateWebhookSecret": Scope.ACCOUNT,
    "Mutation.sendTestWebhook": Scope.ACCOUNT,
    "Mutation.redeliverWebhook": Scope.ACCOUNT,
    "Mutation.markNotificationsRead": Scope.ACCOUNT,
    "Mutation.setNotificationPreference": Scope.ACCOUNT,
    "Mutation.completeTutorialStep": Scope.ACCOUNT,
    "Mutation.resetTutorial": Scope.ACCOUNT,
    "Query.apiKeys": Scope.ACCOUNT,
    "Query.auditEvents": Scope.ACCOUNT,
    "Query.sessions": Scope.ACCOUNT,
    "Query.apiUsage": Scope.ACCOUNT,
    "Query.users": Scope.ACCOUNT,
    "Query.signInProviders": Scope.PUBLIC,
    "Query.registration": Scope.PUBLIC,
    "Query.invitations": Scope.ACCOUNT,
    "Query.upload": Scope.WRITE,
    "Mutation.login": Scope.PUBLIC,
    "Mutation.confirmLogin": Scope.PUBLIC,
    "Mutation.deleteAccount": Scope.SESSION,
    "Mutation.restoreAccount": Scope.PUBLIC,
    "Mutation.enrollTotp": Scope.SESSION,
    "Mutation.confirmTotp": Scope.SESSION,
    "Mutation.disableTotp": Scope.SESSION,
    "Mutation.regenerateBackupCodes": Scope.SESSION,
    "Mutation.unlinkOAuthIdentity": Scope.SESSION,
    "Mutation.beginPasskeyRegistration": Scope.SESSION,
    "Mutation.finishPasskeyRegistration": Scope.SESSION,
    "Mutation.beginPasskeyLogin": Scope.PUBLIC,
    "Mutation.finishPasskeyLogin": Scope.PUBLIC,
    "Mutation.removePasskey": Scope.SESSION,
    "Mutation.logout": Scope.SESSION,
    "Mutation.revokeSession": Scope.SESSION,
    "Mutation.revokeOtherSessions": Scope.SESSION,
    "Mutation.requestPasswordReset": Scope.PUBLIC,
    "Mutation.resetPassword": Scope.PUBLIC,
    "Mutation.changePassword": Scope.SESSION,
    "Mutation.register": Scope.PUBLIC,
    "Mutation.verifyEmail": Scope.PUBLIC,
    "Mutation.changeEmail": Scope.SESSION,
    "Mutation.updateAccount": Scope.SESSION,
    "Mutation.inviteMember": Scope.SESSION,
    "Mutation.createApiKey": Scope.SESSION,
    "Mutation.createTeam": Scope.SESSION,
    "Mutation.setTeamRole": Scope.SESSION,
    "Mutation.removeTeamMember": Scope.SESSION,
    "Mutation.leaveTeam": Scope.SESSION,
    "Mutation.deleteTeam": Scope.SESSION,
    "Mutation.acceptInvitation": Scope.SESSION,
    "Mutation.declineInvitation": Scope.PUBLIC,
    "Mutation.revokeInvitation": Scope.ACCOUNT,
    "Mutation.revokeApiKey": Scope.SESSION,
    "Mutation.runPipeline": Scope.RUN,
    "Mutation.exportTable": Scope.RUN,
    "Mutation.compareRows": Scope.RUN,
    "Mutation.createExport": Scope.RUN,
    "Mutation.createExplanation": Scope.RUN,
    "Mutation.proposeSchema": Scope.RUN,
    "Mutation.profileVersion": Scope.RUN,
    "Mutation.predict": Scope.RUN,
    "Mutation.predictDataset": Scope.RUN,
    "Mutation.cancelJob": Scope.RUN,
    "Mutation.cancelJobs": Scope.RUN,
    "Mutation.retryJob": Scope.RUN,
    "Mutation.reproduceRun": Scope.RUN,
    "Mutation.createExperiment": Scope.TRACK,
    "Mutation.createRun": Scope.TRACK,
    "Mutation.logMetrics": Scope.TRACK,
    "Mutation.logParameters": Scope.TRACK,
    "Mutation.logInputs": Scope.TRACK,
    "Mutation.finishRun": Scope.TRACK,
    "Mutation.requestArtifactUpload": Scope.TRACK,
    "Mutation.completeArtifactUpload": Scope.TRACK,
    "Mutation.registerModelVersion": Scope.TRACK,
    "Mutation.createStudy": Scope.RUN,
    "Mutation.pauseStudy": Scope.RUN,
    "Mutation.resumeStudy": Scope.RUN,
    "Mutation.cancelStudy": Scope.RUN,
    "Mutation.updateStudy": Scope.RUN,
}
"""The scopes of types and fields that are neither WRITE for mutations nor READ for anything else."""


def without_scope(schema: strawberry.Schema) -> list[str]:
    """Report root fields without a scope, mutations without the scope WRITE, and other fields with a scope other than READ.

    `OTHER_SCOPES` lists the exceptions, so that none is made by oversight.
    """
    complaints: list[str] = []
    for name, scope in scopes(schema).items():
        type_name = name.partition(".")[0]
        required = OTHER_SCOPES.get(name) or OTHER_SCOPES.get(type_name) or (Scope.WRITE if type_name == "Mutation" else Scope.READ)
        if scope is None:
            complaints.append(f"{name} has no scope: declare it with `query`, `mutation` or `subscription` of graph/core/permissions.py.")
        elif scope is not required:
            complaints.append(
                f"{name} has the scope {scope.name}, and has to have {required.name}: change it, or add it to OTHER_SCOPES of tests/house/registration.py."
            )
    return complaints


def unreachable(schema: GraphQLSchema) -> list[str]:
    """Report node types that no path from a list of `Query` leads to: clients could not discover their ids."""
    whole = selection.whole_lists(schema)
    return [
        f"No path from a list of Query leads to {node_type.name}: give another type an edge to it, or Query a list of it."
        for node_type in selection.node_types(schema)
        if node_type.name not in whole and next(paths(schema, node_type.name), None) is None
    ]


def without_argument(schema: GraphQLSchema) -> list[str]:
    """Report required arguments of fields of node types that no factory gives a value for."""
    return [
        f"No value is known for {place}: give one in `arguments` of the factory of {node_type.name} in tests/factories."
        for node_type in selection.node_types(schema)
        for name in node_type.fields
        for place in selection.missing_arguments(node_type, name)
    ]


def registered(registry: Mapping[str, Any]) -> dict[str, type]:
    """Return the node types by prefix."""
    return {prefix: registration.type for prefix, registration in registry.items()}
