//! Thread-per-core runtime: executors, direct I/O, sockets, mailboxes, and their simulated twin.
