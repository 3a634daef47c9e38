"""How fast the engine is, against the usual loop and against the machine itself."""
