"""`/docs`: the OpenAPI documents of a process, to read and to try, from files of our own."""
