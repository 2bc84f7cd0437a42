"""`layout --check`: which types the fields of ten users have, and how often; never a value."""

from __future__ import annotations

from notifications.commands.context import Context
from notifications.commands.terminal import Table, say_wrapped, several

USERS = 10


async def check_layout(context: Context) -> int:
    """Print a row for each field. Returns 1 if there is no user, or a time is none of the kind that the layout says."""
    async with context.open_services() as services:
        found = await services.store.field_types(USERS)
    table = Table(("COLLECTION", 20), ("FIELD", 26), last="TYPES")
    for field in found:
        table.row(field.collection, field.name, ", ".join(f"{kind} {count}" for kind, count in field.types.items()))
    for field in found:
        if field.wrong:
            wrong = f"{several(field.wrong, 'document')} of {sum(field.types.values())}"
            say_wrapped(f"created_at_is is wrong for {wrong}: the query for a day's conversations never finds them.")
    if not found[0].types:
        say_wrapped(f"{found[0].collection} has no document; correct `collection` in [users], or GOOGLE_CLOUD_PROJECT.")
    return 0 if found[0].types and not any(field.wrong for field in found) else 1
