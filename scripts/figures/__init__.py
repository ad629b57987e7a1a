"""Figures, one file each: functions of stored tables that never simulate, train or score.

A figure module has TABLES (names of tables, or of results as STUDY_NAME), DATA (what was drawn from), TITLE, CAPTION and
`draw(*tables) -> Figure`.
"""
