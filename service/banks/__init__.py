"""Partner banks 合作银行: who they are, their keys, what they signed, what they ask for and what they are given."""
