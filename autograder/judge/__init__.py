"""Where tests run: a trusted process that student code never enters, and values that cross the wall."""
