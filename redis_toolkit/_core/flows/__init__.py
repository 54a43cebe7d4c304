"""The protocol, written once: what each operation asks of the server, as generators without I/O."""
