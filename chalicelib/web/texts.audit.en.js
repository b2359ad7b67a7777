// The words of the audit trail, in English.
export default {
  "audit.none": "Nothing happened in this month.",
  "audit.month": "Month",
  "audit.what": "What",
  "audit.when": "When",
  "audit.who": "Who",
  "audit.subject": "What it was about",
  "audit.source": "From where",
};
