// The texts of the course's panels, for the language that is chosen.

import { addTexts } from "../i18n.js";
import en from "./texts/en.js";
import ko from "./texts/ko.js";

addTexts({ en, ko });
