"""The parts of a card that are the same for every model: intended use, limits, and what the law says."""

from __future__ import annotations

USE = """\
- Research on multimodal sentiment analysis, and teaching it.
- Exploring recordings of people who have agreed to it, where a person reads and checks the results.
- Summaries over many utterances. A single score is an estimate with a wide error.
"""

NO_USE = """\
- **Not for decisions about people**: hiring, work, schooling, credit, insurance, health, policing, borders, courts.
- Not for inferring emotions of people at work or in education (see the law below).
- Not for finding lies, intentions, illnesses or characters. The labels are what annotators saw and heard in an
  utterance, not what somebody felt.
- Not for recordings that were made or are analysed without the knowledge of the people in them.
- Not for other languages, people, microphones or cameras than those of the data, unless it is evaluated there.
"""

LAW = """\
This is a summary in our own words and **not legal advice**. Read the text of the law, and ask somebody who knows it.
In the European Union, Regulation (EU) 2024/1689 (the AI Act) has rules for systems that infer emotions or intentions of
people from biometric data, such as face or voice (article 3(39)):

- **Forbidden at work and in education.** Article 5(1)(f) forbids to sell, to put into service for this purpose or to
  use systems that infer emotions of people in workplaces and in educational institutions. Systems for medical or safety
  reasons are the exception. It applies since 2 February 2025.
- **High-risk elsewhere.** Annex III, point 1(c), lists emotion recognition among the high-risk uses where it is
  permitted at all. Providers and deployers have duties then: managing risks, data governance, documentation, logs,
  human oversight, accuracy. Look up from which date these duties apply; changes of the dates were proposed.
- **People must be told.** By article 50(3) whoever deploys emotion recognition informs the people who are exposed to
  it, and handles their data by the law of data protection.

Guidelines of the European Commission (February 2025) read written text alone as no biometric data, so that a model of
text alone is judged otherwise than one of voice and face. Recordings and transcripts of people are personal data
whatever a model makes of them. Other countries have laws of their own.
"""
