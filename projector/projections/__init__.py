"""The projections beside `processed_events`. A new projection needs a file here, a line below and a migration."""

from projector.projections.activity_hourly import ACTIVITY_HOURLY
from projector.projections.product_views import PRODUCT_VIEWS
from projector.projections.projection import Projection
from projector.projections.user_activity import USER_ACTIVITY
from projector.projections.user_sessions import USER_SESSIONS

# Applied in this order, in the transaction of the batch.
PROJECTIONS: tuple[Projection, ...] = (USER_ACTIVITY, USER_SESSIONS, PRODUCT_VIEWS, ACTIVITY_HOURLY)
