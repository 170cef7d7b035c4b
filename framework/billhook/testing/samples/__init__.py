"""What tests are made with: tiny models and tokens, planted problems, reference models, a model that has learnt."""
