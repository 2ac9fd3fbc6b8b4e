// SPDX-License-Identifier: Apache-2.0
// Asks for the key and turns it into a session; the key itself is not kept.
const form = document.querySelector("form");
const said = document.querySelector("#said");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ key: form.querySelector("input").value }),
  }).catch(() => null);
  if (answer?.ok) location.replace("/");
  else said.textContent = answer ? (await answer.json()).detail : "The inspector does not answer.";
});
