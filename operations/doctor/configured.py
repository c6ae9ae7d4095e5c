"""What can be wrong with the environment of this command, which is that of the processes if it is run beside them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from operations.doctor.findings import Finding, well_unless
from projector.settings import ProjectorSettings

ALIKE = 0.9  # of a name that is none of ours and of one that is


def settings_findings(settings: ProjectorSettings, environment: Mapping[str, str]) -> list[Finding]:
    """No variable is misspelt, and times fit each other. Impossible values never get so far."""
    found = [*_misspelt(environment), *_times(settings)]
    return well_unless("settings", found, "No name is misspelt, and the times fit each other.")


def _misspelt(environment: Mapping[str, str]) -> Iterable[Finding]:
    ours = [name.upper() for name in ProjectorSettings.model_fields]
    for name in sorted(environment.keys() - set(ours)):
        meant = get_close_matches(name, ours, n=1, cutoff=ALIKE)
        if meant and meant[0] not in environment:
            says = f"The environment has {name}, which nothing reads. Is {meant[0]} meant?"
            yield Finding("settings", "warning", says, f"Rename it to {meant[0]}, or remove it.")


def _times(settings: ProjectorSettings) -> Iterable[Finding]:
    session, heartbeat = settings.kafka_session_timeout_ms, settings.kafka_heartbeat_interval_ms
    if heartbeat * 3 > session:
        says = f"KAFKA_HEARTBEAT_INTERVAL_MS, {heartbeat}, is over a third of KAFKA_SESSION_TIMEOUT_MS, {session}."
        yield Finding("settings", "warning", says, "One lost heartbeat ends a membership: lower the first.")
