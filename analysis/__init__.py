"""From committed records to tables, figures and reports; imports neither torch nor ray."""
