"""Files that must not be lost: locks, renames that replace nothing, drafts, and what is on the disk for good."""
