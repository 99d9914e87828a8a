"""From event to effect: admit, append, advance, perform."""
