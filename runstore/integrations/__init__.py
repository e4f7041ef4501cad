"""Other systems' words for what a run is. Nothing but the command line imports these."""
