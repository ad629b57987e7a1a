"""From curves of scores to a label with its evidence: shapes, links, the rule, the table's door and the words."""
