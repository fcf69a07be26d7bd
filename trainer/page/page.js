// The program of the status page.
"use strict";
