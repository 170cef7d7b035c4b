"""Values that say what goes: cuts of every kind with their JSON, where each is repaired, and what it would leave."""
