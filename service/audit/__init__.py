"""The auditor's bundle: written from a platform, replayed under the rules that it carries."""
