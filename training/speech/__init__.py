"""Speech as an engine hears it and a synthesizer speaks it."""
