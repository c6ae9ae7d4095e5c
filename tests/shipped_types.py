"""The catalogue that Footfall is shipped with, and the rules of commands that it makes: what most tests are about."""

from contracts.types import read_catalogue
from contracts.validation.commands import CommandRules
from contracts.validation.fast_commands import FastBatches
from projector.projections.meanings import Meanings

SHIPPED = read_catalogue()
RULES = CommandRules(SHIPPED)
MEANINGS = Meanings(SHIPPED)

validate_user_event = RULES.validate
new_records = FastBatches(RULES).new_records
