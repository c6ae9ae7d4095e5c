"""The names of schemas, in a module without SQLAlchemy, whose import takes a third of a second."""

GENERATION = "read_g1"  # the schema of the first generation
READ = "read"  # the schema of the stable views
