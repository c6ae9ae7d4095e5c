"""The names of schemas, for those who need no tables: importing SQLAlchemy takes a third of a second."""

GENERATION = "read_g1"  # the schema of the first generation
READ = "read"  # the schema of the stable views
