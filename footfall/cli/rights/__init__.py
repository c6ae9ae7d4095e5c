"""Commands about rights: who may query in SQL, and who did what."""
