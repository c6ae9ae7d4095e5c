"""A user's dead letters in the sealed log: they are found by the user's subjects, and handed out opened."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from contracts.types import read_catalogue
from projector.dead_letters.redrive_attempt import letter_of
from projector.privacy.erased_users import User
from projector.sealed.keys import Keys, opening
from projector.sealed.letters import opened_letters
from projector.sealed.opener import Opener, Unsealed
from read_model.connecting.pool import Connection


class LetterReader:
    """Reads the letters of one user. `users`: by whom they are found: the user, and the user's subjects."""

    def __init__(self, users: Sequence[User], opener: Opener | Unsealed, connection: Connection) -> None:
        self.users = users
        self._opener = opener
        self._connection = connection

    async def value(self, row: asyncpg.Record) -> bytes | None:
        """The value of a letter's record, opened if it was sealed."""
        letter = letter_of(row)
        [opened] = await opened_letters(self._opener, [letter], self._connection)
        return letter.value if opened.problem else opened.value


@asynccontextmanager
async def letter_reader(keys: Keys | None, connection: Connection, user: User) -> AsyncIterator[LetterReader]:
    """A reader, connected to the key store during the body. Raises KeysError."""
    async with opening(keys, read_catalogue()) as opener:
        subjects = [] if keys is None else await keys.store.subjects_of(user)
        yield LetterReader([user, *((user[0], subject) for subject in subjects)], opener, connection)
