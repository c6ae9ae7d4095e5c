"""What ENVIRONMENT=production refuses: connections that others may read."""

from typing import Protocol, runtime_checkable

from pydantic_settings import BaseSettings

from footfall.processes.secrets.secret_files import secret_names


@runtime_checkable
class Particular(Protocol):
    """Settings that are particular about production themselves."""

    def problems_in_production(self) -> list[str]:
        """Returns a line for each problem; it quotes no secret."""
        ...


def problems_in_production(settings: BaseSettings) -> list[str]:
    """Returns a line for each setting that production refuses; it quotes no secret."""
    problems = settings.problems_in_production() if isinstance(settings, Particular) else []
    urls = {name: getattr(settings, name).get_secret_value() for name in secret_names(type(settings))}
    readable = [
        name
        for name, url in urls.items()
        if name.endswith(("database_url", "key_store_url")) and url and _may_be_read(url)
    ]
    return [
        *problems,
        *(
            f"{name.upper()}: rows and the password may travel in the clear. Add ?sslmode=verify-full&sslrootcert=FILE "
            "to the URL; in a network that nobody else can listen to, say so with ?sslmode=disable"
            for name in readable
        ),
    ]


def _may_be_read(url: str) -> bool:
    from read_model.connecting.database_url import (  # noqa: PLC0415 - the command side has no read model
        parse,
        plaintext_by_default,
    )

    return plaintext_by_default(parse(url))
