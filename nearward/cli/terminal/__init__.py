"""Options, text, tables and progress that all commands share; imports no command."""
