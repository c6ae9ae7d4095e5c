"""What projectors tell in metrics of the log, the topic and PostgreSQL, beside projecting and never in its way."""
