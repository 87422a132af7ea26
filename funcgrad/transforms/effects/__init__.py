"""Python functions inside programs: callbacks, printing, the debugger."""
