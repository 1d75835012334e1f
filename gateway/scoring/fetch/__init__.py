"""From a URL that a stranger wrote to bytes, without reaching what it should not."""
