"""What the tests are written with: a class with verbs for each process and peer, and the waiting."""
