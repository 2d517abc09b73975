// What is folded away is unfolded for the printer.
"use strict";

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
