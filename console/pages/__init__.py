"""The pages, one module each."""

from console.pages.activity import ACTIVITY_ROUTES
from console.pages.dead_letters import DEAD_LETTER_ROUTES
from console.pages.finding import FIND_ROUTES
from console.pages.generations import GENERATION_ROUTES
from console.pages.in_force import SETTINGS_ROUTES
from console.pages.jobs import JOB_ROUTES
from console.pages.overview import OVERVIEW_ROUTES
from console.pages.retention import RETENTION_ROUTES
from console.pages.sessions import SESSION_ROUTES
from console.pages.signing_in import SIGN_IN_ROUTES

ROUTES = (
    *OVERVIEW_ROUTES,
    *DEAD_LETTER_ROUTES,
    *JOB_ROUTES,
    *SIGN_IN_ROUTES,
    *SESSION_ROUTES,
    *GENERATION_ROUTES,
    *FIND_ROUTES,
    *ACTIVITY_ROUTES,
    *RETENTION_ROUTES,
    *SETTINGS_ROUTES,
)
