"""One recording: what every reader returns, which channel is which, and what is wrong with it."""
