"""Participants 参与者: they look at their balance, at their statement, and at how one of their credits came about."""

import random
from typing import Any

from locust import FastHttpUser, between, task

from load_tests.access import EnrolledRider


class Participant(FastHttpUser):
    """One person after another, each reading their own account with their own token."""

    weight = 8
    wait_time = between(0.02, 0.1)

    def on_start(self) -> None:
        self.chance = random.Random()

    @task(6)
    def read_balance(self) -> None:
        rider = self._rider()
        self._read(rider, "balance", "balance")

    @task(2)
    def read_statement(self) -> None:
        """The first page, and the next one if there is one."""
        rider = self._rider()
        page = self._read(rider, "statement?limit=20", "statement")
        if page.get("next"):
            self._read(rider, f"statement?limit=20&after={page['next']}", "statement, next page")

    @task(1)
    def explain_a_credit(self) -> None:
        rider = self._rider()
        page = self._read(rider, "statement?limit=20", "statement")
        credits = [transfer for transfer in page.get("transfers", ()) if transfer["kind"] == "credit"]
        if credits:
            transfer_id = self.chance.choice(credits)["transfer_id"]
            self._read(rider, f"transfers/{transfer_id}", "explain a credit")

    def _rider(self) -> EnrolledRider:
        rider: EnrolledRider = self.chance.choice(self.environment.access.riders)
        return rider

    def _read(self, rider: EnrolledRider, what: str, name: str) -> dict[str, Any]:
        """The answer's content; empty if it failed, which Locust has then counted."""
        path = f"/v1/participants/{rider.participant_id}/{what}"
        with self.client.get(path, headers=rider.headers, name=name, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"expected 200; came {answer.status_code} {answer.text}")
                return {}
            content: dict[str, Any] = answer.json()
            return content
