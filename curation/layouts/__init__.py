"""Layouts that other trainers read, a file a trainer; `export` writes one."""
