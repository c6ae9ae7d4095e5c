"""`footfall keys`: makes, lists, rotates and revokes API keys (docs/identity.md)."""

import re
from datetime import timedelta
from typing import Any

import rich_click as click

from footfall.cli.options import state_dir_option

UNITS = {"m": "minutes", "h": "hours", "d": "days"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


class Span(click.ParamType[timedelta]):
    """A length of time: 90d, 12h, 30m."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Returns the length. Fails with a usage error if the text is none."""
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value)
        if found is None:
            self.fail(f"{value!r} is not a length of time such as 90d, 12h or 30m", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke the keys that open the processes which run with AUTH=keys.

    Keys are kept in the compacted topic KAFKA_KEYS_TOPIC, as SHA-256 only; every process follows it. These commands
    need Kafka and nothing else: whoever may write to that topic may make keys.

    \b
    Kinds:
      public     ffw_..  may only write events, from the origins that it lists: fit for a browser
      secret     ffs_..  for servers: writes, reads and exports, or as --scope says
      operator   ffa_..  for operators: everything, or as --scope says

    \b
    Examples:
      footfall keys create --kind public --name shop --origin https://shop.example
      footfall keys create --kind secret --name warehouse --scope events:read --expires-in 90d
      footfall keys rotate 01a20571-8b4b-74c7-b47b-1221bf3a56c1
      footfall keys revoke 01a20571-8b4b-74c7-b47b-1221bf3a56c1
    """


@keys.command("create")
@state_dir_option
@click.option("--kind", type=click.Choice(("public", "secret", "operator")), required=True, help="See above.")
@click.option("--name", required=True, help="For people: who uses it, and for what.")
@click.option("--tenant", "tenant_id", default="default", show_default=True, help="Whose data it is about.")
@click.option(
    "--scope", "scopes", multiple=True, help="What it may do. May be repeated.  [default: usual for the kind]"
)
@click.option("--origin", "origins", multiple=True, help="Of a public key: https://shop.example. May be repeated.")
@click.option("--expires-in", "valid_for", type=Span(), help="Such as 90d, 12h, 30m.  [default: never]")
@json_option
def keys_create(as_json: bool, **wanted: Any) -> None:
    """Make a key and print it. It is shown this once and kept nowhere.

    \b
    Examples:
      footfall keys create --kind secret --name backend --tenant acme --expires-in 365d
      footfall keys create --kind operator --name grafana --scope metrics
    """
    from footfall.cli.output.keys import print_new

    print_new(wanted, as_json=as_json)


@keys.command("list")
@state_dir_option
@json_option
def keys_list(as_json: bool) -> None:
    """List every key with its tenant, scopes, origins and dates; never the key itself."""
    from footfall.cli.output.keys import print_all

    print_all(as_json=as_json)


@keys.command("rotate")
@state_dir_option
@click.argument("key_id")
@click.option(
    "--overlap", type=Span(), default="1d", show_default=True, help="How long the present text stays valid, too."
)
@json_option
def keys_rotate(key_id: str, overlap: timedelta, as_json: bool) -> None:
    """Give a key a new text and print it. Two texts are valid at the same time at most.

    \b
    Example:
      footfall keys rotate 01a20571-8b4b-74c7-b47b-1221bf3a56c1 --overlap 12h
    """
    from footfall.cli.output.keys import print_rotated

    print_rotated(key_id, overlap, as_json=as_json)


@keys.command("revoke")
@state_dir_option
@click.argument("key_id")
@json_option
def keys_revoke(key_id: str, as_json: bool) -> None:
    """End a key for ever. Every process that hears Kafka refuses it within two seconds."""
    from footfall.cli.output.keys import print_revoked

    print_revoked(key_id, as_json=as_json)
