"""One online learner with one setting serves texts, images and sounds whose classes come one after another.

Wójcik et al., 2023: Domain-Agnostic Neural Architecture for Class Incremental Continual Learning in Document
Processing Platform (arXiv 2307.05399).
"""

from neurarium.continual import NearestMeanClassifier, StreamClassifier

letters = [
    "please find the invoice for march attached, payment is due",
    "the invoice of april, amount due in thirty days",
]
offers = ["we are pleased to offer you our new service at half the price", "a special offer on all services this week"]

stream = StreamClassifier("text-hash", NearestMeanClassifier())  # or no learner: the paper's ensemble
stream.partial_fit(letters, ["invoice", "invoice"])  # each item once
stream.partial_fit(offers, ["offer", "offer"])  # a class that is new
print(stream.predict(["your invoice, due today", "our best offer for your service"]))

stream.save("stream.pt")  # labels and learner in one file
again = StreamClassifier("text-hash", NearestMeanClassifier()).load("stream.pt")
print(again.predict(["invoice due"]), stream.state_bytes(), "bytes, however many items")
