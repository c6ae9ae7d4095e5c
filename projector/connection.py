"""The type of a database connection, from a pool or not."""

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy | asyncpg.Connection
