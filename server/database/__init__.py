"""SQLite: one writer, the tables, their migrations, copies."""
