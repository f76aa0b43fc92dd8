"""The person's rights 个人权利: to see and take along what is kept of them, to have it corrected and to have it erased;
and guardians, who hold these rights for those under 14."""
